"""Segments in the admin."""

from django.contrib import admin

from segments.models import Segment


@admin.register(Segment)
class SegmentAdmin(admin.ModelAdmin):
    list_display = ["road", "start", "end", "length_m", "speed_limit"]
    list_filter = ["road"]
    search_fields = ["road", "start", "end"]
