"""The table of segments."""

from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [
        migrations.CreateModel(
            name="Segment",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("road", models.CharField(db_index=True, max_length=16)),
                ("start", models.CharField(max_length=64, verbose_name="from")),
                ("end", models.CharField(max_length=64, verbose_name="to")),
                ("length_m", models.PositiveIntegerField(verbose_name="length in metres")),
                (
                    "speed_limit",
                    models.PositiveSmallIntegerField(
                        blank=True, null=True, verbose_name="speed limit in km/h"
                    ),
                ),
            ],
            options={"ordering": ["road", "id"]},
        ),
    ]
