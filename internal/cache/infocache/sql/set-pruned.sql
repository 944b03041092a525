update pruned set at = ?;
