"""The model without a table, for its permissions."""

from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    """Nothing is done in the database."""

    initial = True
    dependencies: ClassVar = []
    operations: ClassVar = [
        migrations.CreateModel(
            name="Workers",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
            ],
            options={
                "verbose_name": "workers",
                "verbose_name_plural": "workers",
                "permissions": (
                    ("view", "Can see the server and what its requests do"),
                    ("operate", "Can reload the server and replace its workers"),
                ),
                "managed": False,
                "default_permissions": (),
            },
        ),
    ]
