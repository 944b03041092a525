package main

import (
	"gobuild/internal/cache/wire"
	"gobuild/internal/config"
	"gobuild/internal/goal"
	"gobuild/internal/netprogram"
)

// sources are where substitutes may come from, as the settings want it.
func (s *session) sources() ([]goal.Source, error) {
	c := s.settings
	sources, err := s.substituterPrograms()
	if err == nil && c.Substitute && len(c.Substituters) > 0 {
		links := ""
		if c.AutoOptimiseStore {
			links = s.dirs.RealStore + "/.links"
		}
		sources = append(sources, goal.NewCaches(s.cacheConfig(), networkProgram(), config.Environ(), links))
	}
	return sources, err
}

// networkProgram is asked for what to execute when it is first needed.
func networkProgram() func() (string, error) {
	program := &netprogram.Program{}
	return func() (string, error) {
		fd, err := program.Open()
		return netprogram.Path(fd), err
	}
}

// cacheConfig is what the network program must know of the settings.
func (s *session) cacheConfig() wire.Config {
	c := s.settings
	agent := "gobuild/" + version
	if c.UserAgentSuffix != "" {
		agent += " " + c.UserAgentSuffix
	}
	return wire.Config{
		StoreDir: string(s.dirs.Store), Substituters: c.Substituters,
		TrustedKeys: c.TrustedPublicKeys, RequireSigs: c.RequireSigs,
		Connections: c.HTTPConnections, HTTP2: c.HTTP2, Attempts: c.DownloadAttempts,
		ConnectTimeout: c.ConnectTimeout, StallTimeout: c.StalledDownloadTimeout, DownloadSpeed: c.DownloadSpeed,
		PositiveTTL: c.NarinfoCachePositiveTTL, NegativeTTL: c.NarinfoCacheNegativeTTL,
		CacheFile: s.dirs.State + "/db/gobuild-narinfo.sqlite",
		NetrcFile: c.NetrcFile, CAFile: c.SSLCertFile, UserAgent: agent,
		KeepXattrs: c.IgnoredACLs, Fsync: c.FsyncStorePaths,
	}
}
