"""``trio-gw cluster up``: a cluster of child processes that is kept up, and stops and starts replicas for a rollout."""
