"""A real RTSP server: `/usr/bin/python3 rtsp_server.py PORT [FILE.mp4]` prints its port and serves /court.

On loopback; port 0 takes a free one. It shows a moving ball without end, or a file once. Needs Debian's
python3-gi, gir1.2-gst-rtsp-server-1.0 and gstreamer1.0-plugins-good; run by the system's Python, whose
packages these are.
"""

import sys
from importlib import import_module  # of what no environment of ours has

import_module("gi").require_versions({"Gst": "1.0", "GstRtspServer": "1.0"})
GLib, Gst, GstRtspServer = (
    import_module(f"gi.repository.{name}") for name in ("GLib", "Gst", "GstRtspServer")
)

BALL = (
    "( videotestsrc is-live=true pattern=ball ! video/x-raw,format=I420,width=320,height=180,framerate=30/1"
    " ! jpegenc ! rtpjpegpay name=pay0 pt=26 )"
)
FILE = "( filesrc location={} ! qtdemux ! rtph264pay name=pay0 pt=96 )"

if __name__ == "__main__":
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(sys.argv[1])
    media = GstRtspServer.RTSPMediaFactory()
    media.set_launch(FILE.format(sys.argv[2]) if len(sys.argv) > 2 else BALL)
    server.get_mount_points().add_factory("/court", media)
    server.attach(None)
    print(server.get_bound_port(), flush=True)
    GLib.MainLoop().run()
