"""Addresses of the demo project."""

from django.contrib import admin
from django.urls import path
from segments.views import query_segment

from miniproject import views

urlpatterns = [
    path("", views.home, name="home"),
    path("miniProj/segment/querySegment", query_segment, name="query-segment"),
    path("upload/", views.upload, name="upload"),
    path("stream/", views.stream, name="stream"),
    path("live/", views.live, name="live"),
    path("live/socket", views.live_socket, name="live-socket"),
    path("admin/", admin.site.urls),
]
