"""Files in and out."""

import hashlib

from testproject.shop.models import Document


def store(name, title, file, owner=None):
    """Store a file under its name; another one of that name is replaced."""
    digest = hashlib.sha256()
    for chunk in file.chunks():
        digest.update(chunk)
    file.seek(0)
    document = Document.objects.filter(name=name).first() or Document(name=name)
    document.file.delete(save=False)
    document.title, document.owner = title, owner
    document.size, document.sha256 = file.size, digest.hexdigest()
    document.file.save(name, file, save=False)
    document.save()
    return document
