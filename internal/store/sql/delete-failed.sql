delete from FailedPaths where path = ?
