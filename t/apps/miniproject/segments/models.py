"""A piece of road between two junctions."""

from django.db import models


class Segment(models.Model):
    road = models.CharField(max_length=16, db_index=True)
    start = models.CharField("from", max_length=64)
    end = models.CharField("to", max_length=64)
    length_m = models.PositiveIntegerField("length in metres")
    speed_limit = models.PositiveSmallIntegerField("speed limit in km/h", null=True, blank=True)

    class Meta:
        ordering = ["road", "id"]

    def __str__(self):
        return f"{self.road}: {self.start} - {self.end}"
