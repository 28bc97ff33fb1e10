"""What packages add to PostgreSQL: triggers, history, locks, activity, a cache of queries, a queue of tasks."""
