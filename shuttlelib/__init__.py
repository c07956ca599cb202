"""Find the badminton shuttle in video: label, train, mine, deploy, report."""

__version__ = "0.1.0"
