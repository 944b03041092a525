package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"gobuild/internal/activity"
	"gobuild/internal/cache/wire"
	"gobuild/internal/config"
	"gobuild/internal/netprogram"
	"gobuild/internal/store/storepath"
	"gobuild/internal/worker/proc"
)

type copyOptions struct {
	to          string
	noRecursive bool
	keepGoing   bool
	logs        bool
}

func (a *app) copyCommand() *cobra.Command {
	var o copyOptions
	c := &cobra.Command{
		Use:   "copy --to URL PATH...",
		Short: "Copy paths to a binary cache",
		Long: `Copy writes paths and all that they refer to into a binary cache, from which others
can fetch them. What is there already is left as it is. A derivation stands for
its own file; DRV^out and DRV^* stand for its outputs.

The URL is file:///DIR, http(s)://HOST/PATH (files are PUT there) or
s3://BUCKET?region=REGION. Its parameters say how to write:

  compression=METHOD      none, xz (the default), bzip2, zstd, gzip or br
  compression-level=N     how hard to try
  parallel-compression=true  use several processors for one archive
  write-nar-listing=true  write listings of archives, too
  index-debug-info=true   let debuggers find debugging information
  secret-key=FILE         sign what is copied`,
		Example: "  gobuild copy --to 'file:///srv/cache?compression=zstd&secret-key=/etc/nix/secret-key' ./result",
		Args:    cobra.MinimumNArgs(1),
		RunE:    func(_ *cobra.Command, args []string) error { return a.copy(o, args) },
	}
	f := c.Flags()
	f.StringVar(&o.to, "to", "", "`URL` of the cache")
	f.BoolVar(&o.noRecursive, "no-recursive", false, "copy the paths only; what they refer to must be in the cache")
	f.BoolVarP(&o.keepGoing, "keep-going", "k", false, "go on with other paths after a failure")
	f.BoolVar(&o.logs, "with-logs", false, "copy the build logs, too")
	_ = c.MarkFlagRequired("to")
	return c
}

func (a *app) copy(o copyOptions, args []string) error {
	s, err := a.open(reading, args...)
	if err != nil {
		return err
	}
	defer s.close()
	paths, err := s.validPaths(args)
	if err != nil {
		return err
	}
	if !o.noRecursive {
		if paths, err = s.store.Closure(paths...); err != nil {
			return err
		}
	}
	if paths, err = s.store.Topological(paths); err != nil {
		return err
	}
	u := wire.Upload{Config: s.cacheConfig(), To: o.to, KeepGoing: o.keepGoing}
	u.Version = wire.Version
	for _, p := range paths {
		described, err := s.uploadPath(p)
		if err != nil {
			return err
		}
		u.Paths = append(u.Paths, described)
	}
	if o.logs {
		u.Logs = s.uploadLogs(u.Paths)
	}
	return s.upload(&u)
}

func (s *session) uploadPath(p storepath.Path) (wire.UploadPath, error) {
	info, err := s.store.Info(p)
	if err != nil {
		return wire.UploadPath{}, err
	}
	return wire.UploadPath{
		Path: p, Real: s.store.RealPath(p), NarHash: info.NarHash, NarSize: info.NarSize,
		References: info.References, Deriver: info.Deriver, Sigs: info.Sigs, CA: info.CA.String(),
	}, nil
}

// uploadLogs finds the logs of the builds that made paths, as far as they were
// kept.
func (s *session) uploadLogs(paths []wire.UploadPath) []wire.UploadLog {
	var drvs []storepath.Path
	for _, p := range paths {
		if p.Deriver != "" {
			drvs = append(drvs, p.Deriver)
		}
	}
	slices.Sort(drvs)
	var logs []wire.UploadLog
	for _, drv := range slices.Compact(drvs) {
		for _, name := range s.store.LogPaths(drv) {
			if exists(name) {
				logs = append(logs, wire.UploadLog{Drv: drv, File: name})
				break
			}
		}
	}
	return logs
}

// upload has the network program copy paths, and shows how it goes.
func (s *session) upload(u *wire.Upload) error {
	request, err := wire.Encode(u)
	if err != nil {
		return err
	}
	child, err := s.startUpload()
	if err != nil {
		return fmt.Errorf("copying to a binary cache: %w", err)
	}
	defer child.out.Close()
	_, writeErr := child.in.Write(request)
	child.in.Close()
	progress := uploadProgress{sink: s.logger(), running: map[storepath.Path]*pathProgress{}}
	readErr := progress.follow(child.out)
	progress.end()
	status, err := child.process.Wait()
	switch {
	case err != nil:
		return err
	case !status.OK():
		return fmt.Errorf("copying to a binary cache: the network program %s", status)
	case writeErr != nil || readErr != nil:
		return fmt.Errorf("talking to the network program: %w", errors.Join(writeErr, readErr))
	}
	return progress.failure
}

// An uploadChild is the network program at work on an upload.
type uploadChild struct {
	process *proc.Process
	in, out *os.File
}

// startUpload starts the network program. It ends when this one does: main has
// locked this goroutine to its thread, on whose death the signal depends.
func (s *session) startUpload() (*uploadChild, error) {
	fd, err := s.network.Open()
	if err != nil {
		return nil, err
	}
	inR, inW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer inR.Close()
	outR, outW, err := os.Pipe()
	if err != nil {
		inW.Close()
		return nil, err
	}
	defer outW.Close()
	p, err := proc.Start(proc.Command{
		Path: netprogram.Path(fd), Argv: []string{netprogram.Name, wire.UploadJob}, Env: config.Environ(),
		Files: []int{int(inR.Fd()), int(outW.Fd()), 2},
		Attr:  syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM},
	})
	if err != nil {
		inW.Close()
		outR.Close()
		return nil, err
	}
	return &uploadChild{p, inW, outR}, nil
}

// uploadProgress turns the events of an upload into activities.
type uploadProgress struct {
	sink         activity.Sink
	uri          string
	last, copies activity.ID
	paths        [2]int // copied, and planned
	failed       int
	running      map[storepath.Path]*pathProgress
	failure      error
}

// A pathProgress is a path under way.
type pathProgress struct {
	id   activity.ID
	done uint64 // bytes
}

func (u *uploadProgress) follow(events io.Reader) error {
	for d := json.NewDecoder(events); ; {
		var e wire.UploadEvent
		if err := d.Decode(&e); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		u.event(&e)
	}
}

func (u *uploadProgress) event(e *wire.UploadEvent) {
	switch e.Kind {
	case wire.UploadPlanned:
		u.uri, u.paths[1] = e.URI, e.Paths
		if e.Paths > 0 {
			u.copies = u.start(activity.CopyPaths, fmt.Sprintf("copying %d paths", e.Paths), 0)
			u.sink.Result(u.copies, activity.SetExpected, int(activity.CopyPath), e.Bytes)
		}
	case wire.UploadStarted:
		text := fmt.Sprintf("copying path '%s' to '%s'", e.Path, u.uri)
		u.running[e.Path] = &pathProgress{id: u.start(activity.CopyPath, text, u.copies, string(e.Path), "local", u.uri)}
		u.count()
	case wire.UploadMoved:
		if p := u.running[e.Path]; p != nil {
			p.done += e.Bytes
			u.sink.Result(p.id, activity.Progress, p.done, p.done, uint64(0), uint64(0))
		}
	case wire.UploadCopied:
		u.paths[0]++
		u.stop(e.Path)
	case wire.UploadFailed:
		u.fail(e)
	case wire.Message:
		u.sink.Message(e.Level, e.Text)
	}
}

// fail keeps the only failure for the end; of several each is shown.
func (u *uploadProgress) fail(e *wire.UploadEvent) {
	u.stop(e.Path)
	err := errors.New(e.Text)
	switch u.failed++; u.failed {
	case 1:
		u.failure = err
		return
	case 2:
		u.sink.Failure(u.failure)
	}
	u.sink.Failure(err)
	u.failure = fmt.Errorf("%d of %d paths could not be copied", u.failed, u.paths[1])
}

func (u *uploadProgress) start(t activity.Type, text string, parent activity.ID, fields ...any) activity.ID {
	if u.last == 0 {
		u.last = activity.ID(os.Getpid()) << 32
	}
	u.last++
	u.sink.Start(u.last, activity.Info, t, text, parent, fields...)
	return u.last
}

func (u *uploadProgress) stop(p storepath.Path) {
	if r := u.running[p]; r != nil {
		u.sink.Stop(r.id)
		delete(u.running, p)
		u.count()
	}
}

func (u *uploadProgress) count() {
	u.sink.Result(u.copies, activity.Progress, u.paths[0], u.paths[1], len(u.running), u.failed)
}

// end stops what the program left open.
func (u *uploadProgress) end() {
	for _, p := range slices.Sorted(maps.Keys(u.running)) {
		u.stop(p)
	}
	if u.copies != 0 {
		u.sink.Stop(u.copies)
	}
}
