"""What a new user does first: install the wheel, add the app, migrate. Run it where the sources are not.

No test: ``tox run -e dist`` runs a copy of it with nothing installed but the wheel and what it asks for,
and names the source package, whose every file the wheel must carry.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.core.management import call_command

DISTRIBUTION = "django-durable-workflows"

#: What only an extra, or a test run, brings along: modules that need it may fail without it.
OPTIONAL = {"drf_spectacular", "hypothesis", "psycopg", "pytest", "rich", "time_machine"}


def configure() -> None:
    settings.configure(
        SECRET_KEY="not a secret: smoke test",
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": ":memory:",
                "OPTIONS": {"transaction_mode": "IMMEDIATE"},
            }
        },
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        USE_TZ=True,
        STATIC_URL="static/",
        INSTALLED_APPS=[
            "django.contrib.admin",
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "django.contrib.messages",
            "django.contrib.staticfiles",
            "guardian",
            "rest_framework",
            "django_filters",
            "django_q",
            "django_workflows",
        ],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django.contrib.messages.middleware.MessageMiddleware",
        ],
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "OPTIONS": {
                    "context_processors": [
                        "django.template.context_processors.request",
                        "django.contrib.auth.context_processors.auth",
                        "django.contrib.messages.context_processors.messages",
                    ]
                },
            }
        ],
        AUTHENTICATION_BACKENDS=[
            "django.contrib.auth.backends.ModelBackend",
            "guardian.backends.ObjectPermissionBackend",
        ],
        ANONYMOUS_USER_NAME=None,
        GUARDIAN_MONKEY_PATCH_USER=False,
        GUARDIAN_MONKEY_PATCH_GROUP=False,
        Q_CLUSTER={
            "name": "smoke",
            "orm": "default",
            "workers": 2,
            "queue_limit": 2,
            "bulk": 1,
            "timeout": 60,
            "retry": 300,
            "max_attempts": 1,
            "ack_failures": True,
            "catch_up": False,
        },
        WORKFLOWS_EXECUTOR="immediate",
    )
    django.setup()


def check_files(package: Path, source: Path) -> None:
    """The wheel holds every file of the source package, templates and all, and nothing beside it."""
    files = [Path(str(file)) for file in distribution(DISTRIBUTION).files or ()]
    tops = {file.parts[0] for file in files if not file.parts[0].endswith(".dist-info")}
    expect(tops == {package.name}, f"the wheel installs {sorted(tops)}")
    expect((package / "py.typed").is_file(), "py.typed is missing")
    wanted = {path.relative_to(source) for path in source.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    missing = sorted(str(path) for path in wanted if not (package / path).is_file())
    expect(bool(wanted) and not missing, f"of {len(wanted)} files in {source} the wheel lacks {missing}")


def import_everything(package: Path) -> int:
    """Import every module of the package, and return how many there are."""
    count = 0
    for module in pkgutil.walk_packages([str(package)], "django_workflows.", onerror=refuse):
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            expect((error.name or "").split(".")[0] in OPTIONAL, f"{module.name}: {error}")
        count += 1
    return count


def refuse(name: str) -> None:
    error = sys.exc_info()[1]
    optional = isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] in OPTIONAL
    expect(optional, f"{name}: {error!r}")


def expect(condition: bool, problem: str) -> None:
    if not condition:
        sys.exit(f"smoke: {problem}")


def run_a_workflow() -> None:
    """One approval, from its publication to its end."""
    from django.contrib.auth.models import Group, User

    from django_workflows import Workflow, approval, group, machine, services, step_function
    from django_workflows.models import HumanTask

    @step_function
    def book_leave(ctx: Any) -> None:
        ctx.set("booked", True)

    class Leave(Workflow):
        name = "leave"
        ask = approval(assign=group("leads"))
        book = machine(book_leave, mode="transactional")

    lead = User.objects.create_user("lead")
    Group.objects.create(name="leads").user_set.add(lead)
    services.publish(Leave, by=services.SYSTEM)
    instance = services.start("leave", by=lead, data={"days": 3})
    services.decide(HumanTask.objects.inbox(lead).get(), "approved", by=lead)
    instance.refresh_from_db()
    expect((instance.status, instance.data) == ("completed", {"days": 3, "booked": True}), f"it ended as {instance}")


def main() -> None:
    configure()
    import django_workflows

    package = Path(django_workflows.__file__).parent
    expect(package.is_relative_to(sys.prefix), f"{package} is not the installed package")
    expect(
        distribution(DISTRIBUTION).version == django_workflows.__version__,
        "the wheel's version is not the package's",
    )
    check_files(package, Path(sys.argv[1]))
    call_command("check", fail_level="WARNING")
    call_command("migrate", verbosity=0)
    count = import_everything(package)
    run_a_workflow()
    print(f"smoke: {DISTRIBUTION} {django_workflows.__version__}: {count} modules, Django {django.__version__}")


if __name__ == "__main__":
    main()
