"""Upload and download."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import FileResponse
from django.shortcuts import get_object_or_404, redirect, render

from testproject.shop import documents
from testproject.shop.forms import UploadForm
from testproject.shop.models import Document


@login_required
def upload(request):
    form = UploadForm(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid():
        file = form.cleaned_data["file"]
        # Everybody has names of their own: nobody can replace what is somebody else's.
        name = f"{request.user.pk}-{file.name}"
        document = documents.store(name, form.cleaned_data["title"], file, request.user)
        messages.success(request, f"{document.title}: {document.size} bytes, sha256 {document.sha256}")
        return redirect("upload")
    mine = Document.objects.filter(owner=request.user)
    return render(request, "shop/upload.html", {"form": form, "documents": mine})


def download(_request, name):
    document = get_object_or_404(Document, name=name)
    return FileResponse(document.file.open("rb"), as_attachment=True, filename=document.name)
