"""Run by ``manage.py shell``: who may do what on the page, and a session for each. Prints them as JSON."""

import json

from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import Permission, User
from django.contrib.sessions.backends.db import SessionStore

sessions = {}
for name, permissions in (("staff", ()), ("viewer", ("view",)), ("operator", ("operate",))):
    user = User.objects.create(username=name, is_staff=True)
    mine = Permission.objects.filter(content_type__app_label="djworker_admin", codename__in=permissions)
    assert len(mine) == len(permissions), Permission.objects.all()
    user.user_permissions.set(mine)
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    sessions[name] = session.session_key
print(json.dumps(sessions))
