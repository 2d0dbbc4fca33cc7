"""A few segments to start with."""

from django.db import migrations

SEGMENTS = [
    ("A1", "Harbour", "Château Bridge", 4200, 120),
    ("A1", "Château Bridge", "Mill Valley", 7850, None),
    ("A1", "Mill Valley", "East Gate", 5100, 100),
    ("A7", "Lakeside", "Moorland", 12300, None),
    ("A7", "Moorland", "Harbour", 9400, 130),
    ("B4", "Old Market", "Station", 650, 30),
    ("B4", "Station", "City Park", 1100, 50),
    ("B4", "City Park", "Château Bridge", 2300, 70),
]


def add(apps, schema_editor):
    segment = apps.get_model("segments", "Segment")
    segment.objects.bulk_create(
        segment(road=road, start=start, end=end, length_m=length_m, speed_limit=speed_limit)
        for road, start, end, length_m, speed_limit in SEGMENTS
    )


def remove(apps, schema_editor):
    segment = apps.get_model("segments", "Segment")
    for road, start, end, _, _ in SEGMENTS:
        segment.objects.filter(road=road, start=start, end=end).delete()


class Migration(migrations.Migration):
    dependencies = [("segments", "0001_initial")]
    operations = [migrations.RunPython(add, remove)]
