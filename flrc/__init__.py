"""flrc: compress large language models with low-rank factors, and know what it costs."""
