"""What looks on: recorders of requests, panels, metrics, traces, error trackers. On every driver."""
