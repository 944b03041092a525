package protocol

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"gobuild/internal/store/drv"
	"gobuild/internal/store/storepath"
)

// A LostError means that the other side has gone or talks nonsense. Nothing
// more can be asked of it; why, it has at best told its standard error.
type LostError struct {
	Doing string
	Err   error
}

func (e *LostError) Error() string {
	if errors.Is(e.Err, io.EOF) {
		return e.Doing + ": the other side has ended"
	}
	return fmt.Sprintf("%s: %v", e.Doing, e.Err)
}

// Unwrap returns the error of the connection.
func (e *LostError) Unwrap() error { return e.Err }

// A ServeClient asks the other side of the serve protocol, one thing at a
// time; StartAddNar alone may be called while FinishAddNar waits. Its errors
// are *LostErrors, unless it says otherwise.
type ServeClient struct {
	in      *Reader
	out     *Writer
	dir     storepath.Dir
	version Version
}

// NewServeClient greets the other side, which must have the same store
// directory. offer is normally ServeVersion.
func NewServeClient(in io.Reader, out io.Writer, dir storepath.Dir, offer Version) (*ServeClient, error) {
	c := &ServeClient{in: NewReader(in), out: NewWriter(out), dir: dir}
	c.out.Uint64(serveMagicClient)
	c.out.Uint64(uint64(offer))
	_ = c.out.Flush() // the answer tells more: the other side may have ended with a word
	c.greeting(offer)
	if err := c.lost("starting to talk"); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *ServeClient) greeting(offer Version) {
	var head [8]byte
	c.in.fill(head[:])
	if c.in.err == nil && binary.LittleEndian.Uint64(head[:]) != serveMagicServer {
		c.in.Fail(malformed("protocol mismatch, got %q; a login shell that prints something would cause that", head[:]))
	}
	theirs := Version(c.in.Uint64())
	if c.in.err == nil && theirs.Major() != serveMajor {
		c.in.Fail(malformed("unsupported version %d.%d of the serve protocol", theirs.Major(), theirs.Minor()))
	}
	c.version = min(offer, theirs)
}

// Version is what both sides understand.
func (c *ServeClient) Version() Version { return c.version }

// HasNars tells whether AddNar works and PathInfos knows hashes. Otherwise
// paths travel as exports.
func (c *ServeClient) HasNars() bool { return c.version.Minor() >= serveHasAddNar }

// BuildsDerivations tells whether BuildDerivation works.
func (c *ServeClient) BuildsDerivations() bool { return c.version.Minor() >= serveHasBuildDerivation }

// Err is a *LostError if the other side is lost.
func (c *ServeClient) Err() error { return c.lost("talking to the other side") }

func (c *ServeClient) lost(doing string) error {
	if err := c.in.err; err != nil { // it is the likelier one to tell why
		return &LostError{doing, err}
	}
	if err := c.out.err; err != nil {
		return &LostError{doing, err}
	}
	return nil
}

// send ends a request. It does not look at what is being read meanwhile.
func (c *ServeClient) send(doing string) error {
	if err := c.out.Flush(); err != nil {
		return &LostError{doing, err}
	}
	return nil
}

func (c *ServeClient) command(cmd ServeCommand) { c.out.Uint64(uint64(cmd)) }

// ValidOptions is what else to do for paths.
type ValidOptions struct {
	Lock       bool // keep what is valid from the garbage collector while connected
	Substitute bool // first fetch what is not valid, where that is possible
}

// ValidPaths returns which of paths are valid there, sorted.
func (c *ServeClient) ValidPaths(paths []storepath.Path, o ValidOptions) ([]storepath.Path, error) {
	const doing = "asking which paths are valid"
	c.command(ServeQueryValidPaths)
	c.out.Bool(o.Lock)
	c.out.Bool(o.Substitute)
	c.out.Paths(paths)
	if err := c.send(doing); err != nil {
		return nil, err
	}
	valid := c.in.Paths(c.dir)
	slices.Sort(valid)
	valid = slices.Compact(valid)
	c.onlyAsked(valid, paths)
	return valid, c.lost(doing)
}

// onlyAsked refuses sorted answers about what was not asked.
func (c *ServeClient) onlyAsked(answers, asked []storepath.Path) {
	if !slices.IsSorted(asked) {
		asked = slices.Sorted(slices.Values(asked))
	}
	for _, p := range answers {
		if _, ok := slices.BinarySearch(asked, p); !ok {
			c.in.Fail(malformed("an answer about '%s', which was not asked for", p))
			return
		}
	}
}

// PathInfos describes those of paths that are valid there, sorted by path.
func (c *ServeClient) PathInfos(paths []storepath.Path) ([]PathInfo, error) {
	const doing = "asking about paths"
	c.command(ServeQueryPathInfos)
	c.out.Paths(paths)
	if err := c.send(doing); err != nil {
		return nil, err
	}
	var infos []PathInfo
	for {
		info, ok := c.in.ServePathInfo(c.version, c.dir)
		if !ok {
			break
		}
		if len(infos) == len(paths) {
			c.in.Fail(malformed("more answers than questions"))
			break
		}
		infos = append(infos, info)
	}
	slices.SortFunc(infos, func(a, b PathInfo) int { return cmp.Compare(a.Path, b.Path) })
	known := make([]storepath.Path, len(infos))
	for i := range infos {
		known[i] = infos[i].Path
		if i > 0 && known[i] == known[i-1] {
			c.in.Fail(malformed("two answers about '%s'", known[i]))
		}
	}
	c.onlyAsked(known, paths)
	return infos, c.lost(doing)
}

// DumpPath hands the archive of a path that is valid there to receive, which
// must read exactly that. Errors of receive are returned as they are, but then
// nothing more can be asked.
func (c *ServeClient) DumpPath(p storepath.Path, receive func(*Reader) error) error {
	c.command(ServeDumpStorePath)
	c.out.Path(p)
	return c.receive("fetching '"+string(p)+"'", receive)
}

// ExportPaths hands the export of paths, in that order, to receive, which must
// read exactly that. Errors are as with DumpPath.
func (c *ServeClient) ExportPaths(paths []storepath.Path, receive func(*Reader) error) error {
	c.command(ServeExportPaths)
	c.out.Uint64(0) // signing is no more
	c.out.Uint64(uint64(len(paths)))
	for _, p := range paths {
		c.out.Path(p)
	}
	return c.receive("fetching an export", receive)
}

func (c *ServeClient) receive(doing string, receive func(*Reader) error) error {
	if err := c.send(doing); err != nil {
		return err
	}
	err := receive(c.in)
	if lost := c.lost(doing); lost != nil {
		return lost
	}
	if err != nil {
		c.in.Fail(err)
	}
	return err
}

// ImportPaths makes valid there what is in the export that send writes. Errors
// of send are returned as they are, but then nothing more can be asked.
func (c *ServeClient) ImportPaths(send func(*Writer) error) error {
	const doing = "sending an export"
	c.command(ServeImportPaths)
	if err := c.raw(doing, send); err != nil {
		return err
	}
	if err := c.send(doing); err != nil {
		return err
	}
	return c.done(doing)
}

func (c *ServeClient) raw(doing string, send func(*Writer) error) error {
	err := send(c.out)
	if c.out.err != nil {
		return &LostError{doing, c.out.err}
	}
	c.out.err = err
	return err
}

// done reads the word that all is well.
func (c *ServeClient) done(doing string) error {
	if n := c.in.Uint64(); n != 1 {
		c.in.Fail(malformed("%d instead of a confirmation", n))
	}
	return c.lost(doing)
}

// StartAddNar begins to make a path valid there, whose archive send writes.
// Several may be begun before the first is confirmed. The references must be
// valid there, or begun before. Errors of send are returned as they are, but
// then nothing more can be asked. Flush sends the last of it.
func (c *ServeClient) StartAddNar(info *PathInfo, send func(*Writer) error) error {
	doing := "sending '" + string(info.Path) + "'"
	c.command(ServeAddToStoreNar)
	c.out.serveNarInfo(info)
	return c.raw(doing, send)
}

// Flush sends what waits for more.
func (c *ServeClient) Flush() error { return c.send("sending") }

// FinishAddNar waits until the path begun first is valid. It may be called
// from another goroutine than StartAddNar and Flush.
func (c *ServeClient) FinishAddNar(p storepath.Path) error {
	if n := c.in.Uint64(); c.in.err == nil && n != 1 {
		c.in.Fail(malformed("%d instead of a confirmation", n))
	}
	if err := c.in.err; err != nil {
		return &LostError{"sending '" + string(p) + "'", err}
	}
	return nil
}

// Closure returns paths and all that they refer to there, sorted; with
// includeOutputs also the outputs of derivations among it.
func (c *ServeClient) Closure(paths []storepath.Path, includeOutputs bool) ([]storepath.Path, error) {
	const doing = "asking for a closure"
	c.command(ServeQueryClosure)
	c.out.Bool(includeOutputs)
	c.out.Paths(paths)
	if err := c.send(doing); err != nil {
		return nil, err
	}
	closure := c.in.Paths(c.dir)
	slices.Sort(closure)
	return slices.Compact(closure), c.lost(doing)
}

// A RemoteBuildError is a failure of BuildPaths.
type RemoteBuildError struct {
	Status  uint64 // as an exit status
	Message string
}

func (e *RemoteBuildError) Error() string { return e.Message }

// BuildPaths realises store paths, and outputs of derivations in the form
// "DRV!out1,out2", there. A *RemoteBuildError says that it failed.
func (c *ServeClient) BuildPaths(targets []string, o *BuildOptions) error {
	const doing = "building"
	c.command(ServeBuildPaths)
	c.out.Texts(targets)
	c.out.ServeBuildOptions(c.version, o)
	if err := c.send(doing); err != nil {
		return err
	}
	failed := RemoteBuildError{Status: c.in.Uint64()}
	if failed.Status != 0 {
		failed.Message = c.in.Text(MaxText)
	}
	if err := c.lost(doing); err != nil || failed.Status == 0 {
		return err
	}
	return &failed
}

// ErrTooOld means that the other side does not know what was asked for. It has
// not been asked.
var ErrTooOld = errors.New("the other side's version of the serve protocol is too old")

// BuildDerivation builds a derivation there, whose inputs are valid there. The
// derivation's own file need not be. Failures of the build are no errors, but
// in the result.
func (c *ServeClient) BuildDerivation(p storepath.Path, d *drv.Derivation, inputs []storepath.Path, o *BuildOptions) (BuildResult, error) {
	doing := "building '" + string(p) + "'"
	if !c.BuildsDerivations() {
		return BuildResult{}, fmt.Errorf("%s: %w", doing, ErrTooOld)
	}
	c.command(ServeBuildDerivation)
	c.out.Path(p)
	c.out.Derivation(d, inputs)
	c.out.ServeBuildOptions(c.version, o)
	if err := c.send(doing); err != nil {
		return BuildResult{}, err
	}
	minor := c.version.Minor()
	res := c.in.BuildResult(minor >= serveHasTimes, minor >= serveHasOutputs)
	return res, c.lost(doing)
}
