"""Forms: how factors are stored, and what a rank costs."""
