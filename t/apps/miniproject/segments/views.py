"""Segments as JSON."""

from django.http import JsonResponse
from django.views.decorators.http import require_safe

from segments.models import Segment

FIELDS = ["id", "road", "start", "end", "length_m", "speed_limit"]


@require_safe
def query_segment(request):
    """All segments, or with ?road=NAME those of one road."""
    road = request.GET.get("road")
    segments = Segment.objects.all()
    if road is not None:
        segments = segments.filter(road=road)
    rows = list(segments.values(*FIELDS))
    return JsonResponse({"road": road, "count": len(rows), "segments": rows})
