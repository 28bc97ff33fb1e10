"""The page's views, and its entry in the index of Django's admin."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from djworker import log
from djworker.contrib.admin import page, source
from djworker.contrib.admin.models import OPERATE, VIEW, Workers
from djworker.contrib.admin.source import NothingToShowError

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Workers]
else:
    ModelAdmin = admin.ModelAdmin

__all__ = ["WorkersAdmin"]

logger = logging.getLogger("djworker.admin")

#: Raised where a field of the JSON view changes its meaning.
VERSION: Final = 1
_NAME: Final = "djworker_admin_workers"


@admin.register(Workers)
class WorkersAdmin(ModelAdmin):
    """[worker] There is nothing to add, change or delete."""

    # -- who may ------------------------------------------------------------------------------------------------------

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Whether the index has an entry."""
        return self.has_view_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: Workers | None = None) -> bool:  # noqa: ARG002 - Django's
        """Whether the page may be seen."""
        user: Any = request.user
        return bool(user.has_perm(VIEW)) or self.has_operate_permission(request)

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Whether the server may be reloaded, and its workers be replaced."""
        user: Any = request.user
        return bool(user.has_perm(OPERATE))

    def has_add_permission(self, request: HttpRequest) -> bool:  # noqa: ARG002 - Django's shape
        """It has no rows."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Workers | None = None) -> bool:  # noqa: ARG002 - Django's shape
        """It has no rows."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Workers | None = None) -> bool:  # noqa: ARG002 - Django's shape
        """It has no rows."""
        return False

    # -- where it is --------------------------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        """Return the page's own, and none of a model's."""
        own = self.admin_site.admin_view
        return [
            path("", own(self.changelist_view), name=f"{_NAME}_changelist"),
            path("live/", own(self.live_view), name=f"{_NAME}_live"),
            path("reload/", own(self.reload_view), name=f"{_NAME}_reload"),
            path("recycle/", own(self.recycle_view), name=f"{_NAME}_recycle"),
            path("recycle/<int:slot>/", own(self.recycle_view), name=f"{_NAME}_recycle_slot"),
        ]

    def _to(self, view: str) -> str:
        return reverse(f"admin:{_NAME}_{view}", current_app=self.admin_site.name)

    # -- the page -----------------------------------------------------------------------------------------------------

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the server. It needs no JavaScript; with it, the parts are kept up to date."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        context = self._context(request, "Workers") | (extra_context or {})
        try:
            context["fragments"] = self._fragments(request)
        except NothingToShowError as error:
            context["trouble"] = str(error)
        return TemplateResponse(request, "djworker_admin/page.html", context)

    def live_view(self, request: HttpRequest) -> HttpResponse:
        """Return the parts of the page as JSON."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        try:
            return JsonResponse({"version": VERSION, "trouble": "", "html": self._fragments(request)})
        except NothingToShowError as error:
            return JsonResponse({"version": VERSION, "trouble": str(error), "html": {}})

    def _fragments(self, request: HttpRequest) -> dict[str, str]:
        recycle = self._to("recycle") if self.has_operate_permission(request) else ""
        return page.fragments(source.look(), request.get_full_path(), recycle)

    def _context(self, request: HttpRequest, title: str) -> dict[str, Any]:
        return {
            **self.admin_site.each_context(request),
            "title": title,
            "opts": self.opts,
            "may_operate": self.has_operate_permission(request),
        }

    # -- what is done -------------------------------------------------------------------------------------------------

    def reload_view(self, request: HttpRequest) -> HttpResponse:
        """Ask whether to reload, and do it."""
        question = (
            "Load the code on disk, and replace the workers one by one? If the new code fails, the old code serves on."
        )
        return self._operate(request, "Reload", question, "reload", {})

    def recycle_view(self, request: HttpRequest, slot: int | None = None) -> HttpResponse:
        """Ask whether to replace a worker, or all, and do it."""
        which = "all workers, one by one" if slot is None else f"the worker in slot {slot}"
        question = f"Replace {which}? The replacement comes first; running requests are finished."
        title = "Replace all workers" if slot is None else f"Replace worker {slot}"
        return self._operate(request, title, question, "recycle", {} if slot is None else {"slot": slot})

    def _operate(
        self, request: HttpRequest, title: str, question: str, verb: str, arguments: dict[str, Any]
    ) -> HttpResponse:
        if not self.has_operate_permission(request):
            raise PermissionDenied
        if request.method != "POST":
            context = self._context(request, title) | {"question": question}
            return TemplateResponse(request, "djworker_admin/confirm.html", context)
        try:
            said = source.act(verb, arguments)
        except NothingToShowError as error:
            messages.error(request, str(error))
        else:
            messages.success(request, said[:1].upper() + said[1:])
            text = f"{request.user.get_username()} asks for: {title.lower()}"
            log.event(
                logger, logging.INFO, "operator_asked", text, user=request.user.get_username(), verb=verb, **arguments
            )
        return HttpResponseRedirect(self._to("changelist"))
