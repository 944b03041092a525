select time from FailedPaths where path = ?
