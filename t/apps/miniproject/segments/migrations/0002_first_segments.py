"""A few segments to start with."""

from django.db import migrations

SEGMENTS = [
    ("A1", "Hafenkreuz", "Nordbrücke", 4200, 120),
    ("A1", "Nordbrücke", "Mühlental", 7850, None),
    ("A1", "Mühlental", "Ostkreuz", 5100, 100),
    ("A7", "Seestadt", "Moorheide", 12300, None),
    ("A7", "Moorheide", "Hafenkreuz", 9400, 130),
    ("B4", "Alter Markt", "Bahnhof", 650, 30),
    ("B4", "Bahnhof", "Stadtpark", 1100, 50),
    ("B4", "Stadtpark", "Nordbrücke", 2300, 70),
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
