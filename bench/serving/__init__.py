"""From requests to answers: a bounded queue, a batching policy and one engine loop for all of them."""
