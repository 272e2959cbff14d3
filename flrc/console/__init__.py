"""The console command ``flrc``."""
