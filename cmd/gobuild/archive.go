package main

import (
	"bufio"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"gobuild/internal/store"
	"gobuild/internal/store/nar"
	"gobuild/internal/store/storepath"
)

func (a *app) dumpCommand() *cobra.Command {
	return &cobra.Command{
		Use: "dump PATH", Short: "Write the archive (NAR) of a file or tree to standard output", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return wrap(nar.Dump(a.stdout, args[0]), "dumping '%s'", args[0])
		},
	}
}

func (a *app) restoreCommand() *cobra.Command {
	return &cobra.Command{
		Use: "restore DEST", Short: "Unpack an archive (NAR) from standard input to DEST, which must not exist", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return wrap(nar.Restore(bufio.NewReaderSize(a.stdin, 256<<10), args[0]), "unpacking an archive to '%s'", args[0])
		},
	}
}

// wrap says what an error came from, if there is one.
func wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), err)
}

func (a *app) logCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "log PATH...",
		Short: "Print the build logs of derivations or of what was built from them",
		Args:  cobra.MinimumNArgs(1),
		RunE:  func(_ *cobra.Command, args []string) error { return a.logs(args) },
	}
}

func (a *app) logs(args []string) error {
	s, err := a.open(reading, args...)
	if err != nil {
		return err
	}
	defer s.close()
	specs, err := s.specs(args)
	if err != nil {
		return err
	}
	for _, spec := range specs {
		if err := s.log(spec.Path); err != nil {
			return err
		}
	}
	return nil
}

// log prints the log of a derivation, or of the one that made a path.
func (s *session) log(p storepath.Path) error {
	drv := p
	if !p.IsDerivation() {
		info, err := s.store.Info(p)
		if err != nil {
			return err
		}
		if drv = info.Deriver; drv == "" {
			return fmt.Errorf("build log of '%s' is not available: it is not known which derivation made it", p)
		}
	}
	for _, name := range s.store.LogPaths(drv) {
		err := s.printLog(name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		return wrap(err, "reading the build log of '%s'", p)
	}
	return s.cachedLog(p, drv)
}

// printLog prints a log file, decompressed.
func (s *session) printLog(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	var r io.Reader = f
	if strings.HasSuffix(name, store.LogSuffix) {
		r = bzip2.NewReader(bufio.NewReader(f))
	}
	_, err = io.Copy(s.stdout, r)
	return err
}

// cachedLog prints the log that a binary cache has.
func (s *session) cachedLog(p, drv storepath.Path) error {
	missing := fmt.Errorf("build log of '%s' is not available", p)
	if !s.settings.Substitute || len(s.settings.Substituters) == 0 {
		return missing
	}
	engine, err := s.engine()
	if err != nil {
		return err
	}
	defer engine.Close()
	dir, err := os.MkdirTemp("", "gobuild-log-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := engine.FetchLog(drv, dir+"/log"); err != nil {
		return fmt.Errorf("%w: %w", missing, err)
	}
	return s.printLog(dir + "/log")
}
