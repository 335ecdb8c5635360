"""A ragged micro-batch on the host becomes a padded batch on the device."""
