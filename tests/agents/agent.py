"""What each agent is told, and how a request makes it report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.processes.project import SETTINGS, URLS, Project

WSGI = "testproject/wsgi.py"
#: ``{report}`` makes a text, ``worker-PID-``, reach the collector.
_VISIT = """
def visit(request):
    import os
    from django.http import HttpResponse
    text = f"worker-{{os.getpid()}}-"
    {report}
    return HttpResponse(text)

urlpatterns += [path("visit", visit)]
"""


@dataclass(frozen=True)
class Agent:
    """One of them. ``PORT_OF`` in the environment is the collector's port.

    packages: as pip names them; the first is the agent's own. settings, wsgi: lines that its documentation has. report: a
    statement of a view. program: its own command, where it has one. shares: whether workers share the memory. kind: of its
    collector. under_gunicorn: whether gunicorn has what it needs.
    """

    packages: tuple[str, ...]
    settings: str = ""
    wsgi: str = ""
    report: str = "pass"
    program: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)
    shares: bool = False
    kind: str = "http"
    under_gunicorn: bool = True

    def install(self, project: Project) -> None:
        """Have the project use it."""
        if self.settings:
            project.append(SETTINGS, f"import os\n{self.settings}")
        if self.wsgi:
            project.write(WSGI, self.wsgi + project.path(WSGI).read_text())
        project.append(URLS, _VISIT.format(report=self.report))

    def environment(self, port: int, notes: str) -> dict[str, str]:
        """Return its variables. notes: a file for New Relic's reports, which it sends by TLS only."""
        given = {name: value.format(port=port, notes=notes) for name, value in self.environ.items()}
        return {"PORT_OF": str(port), "DJANGO_SETTINGS_MODULE": "testproject.settings", **given}


_URL = "'http://127.0.0.1:' + os.environ['PORT_OF']"
#: In this mode it sends nothing, and writes down what it would send, with the process.
_NEW_RELIC = {
    "NEW_RELIC_LICENSE_KEY": "x" * 40,
    "NEW_RELIC_APP_NAME": "shop",
    "NEW_RELIC_DEVELOPER_MODE": "true",
    "NEW_RELIC_AUDIT_LOG": "{notes}",
}
_NEW_RELIC_PROGRAM = ("newrelic-admin", "run-program")
AGENTS: Mapping[str, Agent] = {
    "New Relic": Agent(("newrelic",), program=_NEW_RELIC_PROGRAM, environ=_NEW_RELIC, shares=True, kind="notes"),
    "New Relic in wsgi.py": Agent(
        ("newrelic",),
        wsgi="import newrelic.agent\nnewrelic.agent.initialize()\n",
        environ=_NEW_RELIC,
        shares=True,
        kind="notes",
    ),
    "Honeybadger": Agent(
        ("honeybadger",),
        settings=(
            "MIDDLEWARE.insert(0, 'honeybadger.contrib.DjangoHoneybadgerMiddleware')\n"
            f"HONEYBADGER = {{'API_KEY': 'k', 'ENDPOINT': {_URL}, 'FORCE_REPORT_DATA': True, 'EVENTS_TIMEOUT': 0.2}}\n"
        ),
        report="from honeybadger import honeybadger; honeybadger.event('visit', {'text': text})",
    ),
    "LaunchDarkly": Agent(
        ("launchdarkly-server-sdk",),
        settings=(
            "import ldclient\nfrom ldclient.config import Config\n"
            f"_url = {_URL}\nldclient.set_config(Config('sdk', base_uri=_url, events_uri=_url, stream=False,"
            " flush_interval=0.2, diagnostic_opt_out=True))\nldclient.get()\n"
        ),
        report=(
            "import ldclient; ldclient.get().track('visit', ldclient.Context.create('u'), data=text);"
            " ldclient.get().flush()"
        ),
    ),
    "LaunchDarkly when it is first asked": Agent(
        ("launchdarkly-server-sdk",),
        settings=(
            "import ldclient\nfrom ldclient.config import Config\n"
            f"_url = {_URL}\nldclient.set_config(Config('sdk', base_uri=_url, events_uri=_url, stream=False,"
            " flush_interval=0.2, diagnostic_opt_out=True))\n"
        ),
        report=(
            "import ldclient; ldclient.get().track('visit', ldclient.Context.create('u'), data=text);"
            " ldclient.get().flush()"
        ),
        shares=True,
    ),
    "Datadog": Agent(
        ("ddtrace",),
        program=("ddtrace-run",),
        environ={"DD_TRACE_AGENT_URL": "http://127.0.0.1:{port}", "DD_SERVICE": "shop"},
        report="from ddtrace.trace import tracer; tracer.current_span().set_tag('text', text)",
        shares=True,
    ),
    "Logfire": Agent(
        ("logfire[django]",),
        settings=(
            "import logfire\nlogfire.configure(token='pylf_v1_local_x', console=False, service_name='shop',"
            f" advanced=logfire.AdvancedOptions(base_url={_URL}))\nlogfire.instrument_django()\n"
        ),
        environ={"OTEL_BSP_SCHEDULE_DELAY": "200"},
        report="import logfire; logfire.info(text)",
        shares=True,
    ),
    "Scout": Agent(
        ("scout-apm",),
        settings=(
            "INSTALLED_APPS.insert(0, 'scout_apm.django')\nSCOUT_MONITOR = True\nSCOUT_KEY = 'k'\nSCOUT_NAME = 'shop'\n"
            "SCOUT_CORE_AGENT_LAUNCH = SCOUT_CORE_AGENT_DOWNLOAD = False\n"
            "SCOUT_CORE_AGENT_SOCKET_PATH = 'tcp://127.0.0.1:' + os.environ['PORT_OF']\n"
        ),
        report="from scout_apm.api import Context; Context.add('text', text)",
        shares=True,
        kind="scout",
    ),
    "Unleash": Agent(
        ("UnleashClient",),
        settings=(
            "from UnleashClient import UnleashClient\n"
            f"unleash = UnleashClient({_URL} + '/api', 'shop', instance_id=f'worker-{{os.getpid()}}-')\n"
            "unleash.initialize_client()\n"
        ),
        report="from testproject.settings import unleash; unleash.is_enabled('x')",
    ),
    "Unleash in a receiver of worker_ready": Agent(
        ("UnleashClient",),
        settings=(
            "from UnleashClient import UnleashClient\nfrom djworker.signals import worker_ready\n"
            "def begin(**kwargs):\n    global unleash\n"
            f"    unleash = UnleashClient({_URL} + '/api', 'shop', instance_id=f'worker-{{os.getpid()}}-')\n"
            "    unleash.initialize_client()\nworker_ready.connect(begin)\n"
        ),
        report="from testproject.settings import unleash; unleash.is_enabled('x')",
        shares=True,
        under_gunicorn=False,
    ),
}
