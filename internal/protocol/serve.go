package protocol

import (
	"time"

	"gobuild/internal/store/storepath"
)

// ServeVersion is the version of the serve protocol that is offered.
const ServeVersion Version = 0x207

// serveMajor is the only major number there has been.
const serveMajor = 2

// What the two sides send first.
const (
	serveMagicClient = 0x390c9deb
	serveMagicServer = 0x5452eecb
)

// What each minor version of the serve protocol added.
const (
	serveHasBuildDerivation = 1
	serveHasLogLimit        = 2
	serveHasTimes           = 3
	serveHasNarHash         = 4
	serveHasAddNar          = 5
	serveHasOutputs         = 6
	serveHasKeepFailed      = 7
)

// A ServeCommand is what a client of the serve protocol asks for.
type ServeCommand uint64

// The commands.
const (
	ServeQueryValidPaths ServeCommand = 1
	ServeQueryPathInfos  ServeCommand = 2
	ServeDumpStorePath   ServeCommand = 3
	ServeImportPaths     ServeCommand = 4
	ServeExportPaths     ServeCommand = 5
	ServeBuildPaths      ServeCommand = 6
	ServeQueryClosure    ServeCommand = 7
	ServeBuildDerivation ServeCommand = 8
	ServeAddToStoreNar   ServeCommand = 9
)

// BuildOptions are the limits of a build. Zero means no limit.
type BuildOptions struct {
	MaxSilentTime time.Duration
	Timeout       time.Duration
	MaxLogSize    uint64 // bytes
	Repeats       uint64 // further rounds, which new servers refuse
	Deterministic bool   // differing rounds are a failure
	KeepFailed    bool
}

// ServeBuildOptions writes the options of a build, as far as the version has
// them.
func (w *Writer) ServeBuildOptions(v Version, o *BuildOptions) {
	w.Seconds(o.MaxSilentTime)
	w.Seconds(o.Timeout)
	if v.Minor() >= serveHasLogLimit {
		w.Uint64(o.MaxLogSize)
	}
	if v.Minor() >= serveHasTimes {
		w.Uint64(o.Repeats)
		w.Bool(o.Deterministic)
	}
	if v.Minor() >= serveHasKeepFailed {
		w.Bool(o.KeepFailed)
	}
}

// ServeBuildOptions reads the options of a build.
func (r *Reader) ServeBuildOptions(v Version) BuildOptions {
	o := BuildOptions{MaxSilentTime: r.Seconds(), Timeout: r.Seconds()}
	if v.Minor() >= serveHasLogLimit {
		o.MaxLogSize = r.Uint64()
	}
	if v.Minor() >= serveHasTimes {
		o.Repeats, o.Deterministic = r.Uint64(), r.Bool()
	}
	if v.Minor() >= serveHasKeepFailed {
		o.KeepFailed = r.Bool()
	}
	return o
}

// ServePathInfo reads one entry of the answer to ServeQueryPathInfos; ok is
// false at its end.
func (r *Reader) ServePathInfo(v Version, dir storepath.Dir) (info PathInfo, ok bool) {
	info.Path = r.OptionalPath(dir)
	if r.err != nil || info.Path == "" {
		return PathInfo{}, false
	}
	info.Deriver = r.OptionalPath(dir)
	info.References = r.Paths(dir)
	r.Uint64() // the size of a download that does not happen
	info.NarSize = r.Uint64()
	if v.Minor() >= serveHasNarHash {
		info.NarHash = r.NarHash()
		info.CA = r.ContentAddress()
		info.Sigs = r.Texts(maxName)
	}
	r.endsInside()
	return info, r.err == nil
}

// ServePathInfo writes one entry of the answer to ServeQueryPathInfos. The
// answer ends with an empty Text.
func (w *Writer) ServePathInfo(v Version, info *PathInfo) {
	w.Path(info.Path)
	w.Path(info.Deriver)
	w.Paths(info.References)
	w.Uint64(info.NarSize)
	w.Uint64(info.NarSize)
	if v.Minor() >= serveHasNarHash {
		w.Text(info.NarHash.String())
		w.Text(info.CA.String())
		w.Texts(info.Sigs)
	}
}

// serveNarInfo writes what ServeAddToStoreNar says before the archive.
func (w *Writer) serveNarInfo(info *PathInfo) {
	w.Path(info.Path)
	w.Path(info.Deriver)
	w.Text(info.NarHash.Hex())
	w.Paths(info.References)
	w.Time(info.Registered)
	w.Uint64(info.NarSize)
	w.Bool(info.Ultimate)
	w.Texts(info.Sigs)
	w.Text(info.CA.String())
}
