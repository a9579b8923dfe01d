"""What the service tells of itself: metrics, logs, and the rows and scores that it keeps."""
