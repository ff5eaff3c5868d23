"""What leaves for people and their dashboards: logs and metrics."""
