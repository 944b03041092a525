package store

import "gobuild/internal/store/storepath"

// LogSuffix ends the name of a compressed build log.
const LogSuffix = ".bz2"

// LogPath is where the log of a build of drv is written, without LogSuffix.
func (s *Store) LogPath(drv storepath.Path) string {
	base := drv.Base()
	return s.cfg.LogDir + "/drvs/" + base[:2] + "/" + base[2:]
}

// LogPaths lists where a log of drv may be found, in the order to look
// (database spec, section 10).
func (s *Store) LogPaths(drv storepath.Path) []string {
	now, old := s.LogPath(drv), s.cfg.LogDir+"/drvs/"+drv.Base()
	return []string{now, now + LogSuffix, old, old + LogSuffix}
}
