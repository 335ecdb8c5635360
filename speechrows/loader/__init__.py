"""From rows on disk or on the Hub to batches: plan an epoch, read its rows, collate them on a device."""
