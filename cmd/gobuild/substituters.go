package main

import (
	"gobuild/internal/builtin"
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
		sources = append(sources, goal.NewCaches(s.cacheConfig(), s.networkProgram(), config.Environ(), links))
	}
	return sources, err
}

// mayFetch tells whether there are sources at all.
func (s *session) mayFetch() bool {
	c := s.settings
	return c.Substitute && (len(c.Substituters) > 0 || s.env("NIX_SUBSTITUTERS") != "")
}

// networkProgram is asked for what to execute when it is first needed.
func (s *session) networkProgram() func() (string, error) {
	return func() (string, error) {
		fd, err := s.network.Open()
		return netprogram.Path(fd), err
	}
}

// builtins is what the builders that are built in need.
func (s *session) builtins() goal.Builtins {
	c := s.settings
	return goal.Builtins{
		Program: s.network.Open, NetrcFile: c.NetrcFile, CAFile: c.SSLCertFile,
		Fetch: builtin.Fetch{
			Mirrors: c.HashedMirrors, UserAgent: s.userAgent(), HTTP2: c.HTTP2, Attempts: c.DownloadAttempts,
			ConnectTimeout: c.ConnectTimeout, StallTimeout: c.StalledDownloadTimeout, Speed: c.DownloadSpeed,
		},
	}
}

// userAgent is what servers are told that we are.
func (s *session) userAgent() string {
	agent := "gobuild/" + version
	if suffix := s.settings.UserAgentSuffix; suffix != "" {
		agent += " " + suffix
	}
	return agent
}

// cacheConfig is what the network program must know of the settings.
func (s *session) cacheConfig() wire.Config {
	c := s.settings
	return wire.Config{
		StoreDir: string(s.dirs.Store), Substituters: c.Substituters,
		TrustedKeys: c.TrustedPublicKeys, RequireSigs: c.RequireSigs,
		Connections: c.HTTPConnections, HTTP2: c.HTTP2, Attempts: c.DownloadAttempts,
		ConnectTimeout: c.ConnectTimeout, StallTimeout: c.StalledDownloadTimeout, DownloadSpeed: c.DownloadSpeed,
		PositiveTTL: c.NarinfoCachePositiveTTL, NegativeTTL: c.NarinfoCacheNegativeTTL,
		CacheFile: s.dirs.State + "/db/gobuild-narinfo.sqlite",
		NetrcFile: c.NetrcFile, CAFile: c.SSLCertFile, UserAgent: s.userAgent(),
		KeepXattrs: c.IgnoredACLs, Fsync: c.FsyncStorePaths,
	}
}
