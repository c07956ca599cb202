"""The page of `shuttle app` as a Hugging Face Space: anyone may come, so the limits are tighter."""

from shuttlelib.apps.web.options import Options
from shuttlelib.apps.web.serve import serve

if __name__ == "__main__":
    serve(Options(host="0.0.0.0", public=True, max_upload_mb=200, time_limit_s=600))
