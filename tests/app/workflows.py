"""Workflows of the test project, found when the app starts."""
