delete from FailedPaths
