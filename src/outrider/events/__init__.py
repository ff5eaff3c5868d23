"""Events on their way out: as CloudEvents to watchers, to a Redis stream, to Kafka, to webhooks."""
