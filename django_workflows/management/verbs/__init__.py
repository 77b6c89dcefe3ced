"""The verbs of ``manage.py workflows``, by what they are about."""
