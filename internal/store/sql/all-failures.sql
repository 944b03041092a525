select path, time, drv, message, log from FailedPaths order by path
