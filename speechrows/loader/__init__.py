"""From rows on disk or on the Hub to batches: what there is (index), in which order (plan), the reading."""
