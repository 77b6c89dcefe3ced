"""A university that puts its travel expenses on django_workflows."""
