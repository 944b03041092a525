insert or ignore into FailedPaths (path, time) values (?, ?)
