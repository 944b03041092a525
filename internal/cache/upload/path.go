package upload

import (
	"bufio"
	"compress/bzip2"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"strings"

	"gobuild/internal/cache/compress"
	"gobuild/internal/cache/wire"
	"gobuild/internal/store/digest"
	"gobuild/internal/store/fstree"
	"gobuild/internal/store/nar"
	"gobuild/internal/store/narinfo"
	"gobuild/internal/store/sign"
	"gobuild/internal/store/storepath"
)

// copy writes everything about a path, and its narinfo last.
func (u *uploader) copy(ctx context.Context, it *item) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	info, err := u.describePath(it)
	if err != nil {
		return err
	}
	u.report.send(wire.UploadEvent{Kind: wire.UploadStarted, Path: it.Path})
	packed, err := u.pack(ctx, it)
	if err != nil {
		return err
	}
	defer packed.spool.close()
	info.FileHash, info.FileSize = packed.hash, uint64(packed.spool.size)
	info.URL = "nar/" + packed.hash.Nix32() + ".nar" + compress.Extension(u.compression)
	if err := u.putNew(ctx, info.URL, "application/x-nix-nar", packed.spool.reader(), packed.spool.size); err != nil {
		return err
	}
	if err := u.putExtras(ctx, info, packed.lister); err != nil {
		return err
	}
	if err := u.awaitReferences(ctx, it); err != nil {
		return err
	}
	return u.put(ctx, narinfo.Name(it.Path), "text/x-nix-narinfo", info.Append(nil))
}

// describePath makes the narinfo, but for what only the archive tells.
func (u *uploader) describePath(it *item) (*narinfo.Info, error) {
	ca, err := storepath.ParseContentAddress(it.CA)
	if err != nil {
		return nil, fmt.Errorf("content address of '%s': %w", it.Path, err)
	}
	info := &narinfo.Info{
		Path: it.Path, Compression: u.compression, NarHash: it.NarHash, NarSize: it.NarSize,
		References: it.References, Deriver: it.Deriver, Sigs: it.Sigs, CA: ca,
	}
	fingerprint, err := sign.Fingerprint(info.Path, info.NarHash, info.NarSize, info.References)
	if err != nil { // the narinfo would be of no use, either
		return nil, err
	}
	if u.key != nil {
		info.AddSig(u.key.Sign(fingerprint))
	}
	return info, nil
}

// A packed path is its compressed archive.
type packed struct {
	spool  *spool
	hash   digest.Digest
	lister *lister // nil if nobody wants to know
}

// pack archives a path, compresses the archive, and verifies that it is the
// one that was registered.
func (u *uploader) pack(ctx context.Context, it *item) (_ *packed, err error) {
	select {
	case u.presses <- struct{}{}:
		defer func() { <-u.presses }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	p := &packed{spool: new(spool)}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.spool.close())
		}
	}()
	fileHash := sha256.New()
	press, err := compress.NewWriter(u.compression, io.MultiWriter(p.spool, fileHash), u.level, u.parallel)
	if err != nil {
		return nil, err
	}
	a := &archive{ctx: ctx, out: press, hash: sha256.New(), moved: func(n uint64) {
		u.report.send(wire.UploadEvent{Kind: wire.UploadMoved, Path: it.Path, Bytes: n})
	}}
	var before fstree.Visitor
	if u.listing || u.debugInfo {
		a.lister = newLister()
		p.lister, before = a.lister, a.lister
	}
	err = nar.DumpTree(a, fstree.Walk{Path: it.Real, Name: string(it.Path)}, before)
	if err = errors.Join(err, a.err, press.Close()); err != nil {
		return nil, fmt.Errorf("archiving '%s': %w", it.Path, err)
	}
	if got := digest.FromHash(digest.SHA256, a.hash); got != it.NarHash || a.size != it.NarSize {
		return nil, fmt.Errorf("hash of path '%s' has changed from '%s' to '%s'; 'gobuild repair-path' restores what was changed", it.Path, it.NarHash, got)
	}
	a.tell()
	p.hash = digest.FromHash(digest.SHA256, fileHash)
	return p, nil
}

// An archive hashes and passes on what the archiver makes.
type archive struct {
	ctx    context.Context
	out    io.Writer
	hash   hash.Hash
	size   uint64
	told   uint64 // of size
	moved  func(n uint64)
	block  []byte
	lister *lister
	err    error // of the lister
}

// toldEvery is how many bytes pass between two reports of progress.
const toldEvery = 4 << 20

// Next takes a block.
func (a *archive) Next(block []byte) ([]byte, error) {
	if block == nil {
		a.block = make([]byte, 64<<10)
		return a.block, nil
	}
	if err := a.ctx.Err(); err != nil {
		return nil, err
	}
	a.hash.Write(block)
	a.size += uint64(len(block))
	if a.size-a.told >= toldEvery {
		a.tell()
	}
	_, err := a.out.Write(block)
	return a.block, err
}

func (a *archive) tell() {
	a.moved(a.size - a.told)
	a.told = a.size
}

// BeginFile tells the lister where a file is described.
func (a *archive) BeginFile(n *fstree.Node, at int) {
	if a.lister != nil && a.err == nil {
		a.err = a.lister.file(n, a.size+uint64(at))
	}
}

// EndFile is of no interest.
func (a *archive) EndFile(int) {}

// putExtras writes the listing and the index of debugging information.
func (u *uploader) putExtras(ctx context.Context, info *narinfo.Info, l *lister) error {
	if u.listing {
		text, err := l.end()
		if err != nil {
			return fmt.Errorf("in '%s': %w", info.Path, err)
		}
		if err := u.put(ctx, info.Path.HashPart()+".ls", "application/json", text); err != nil {
			return err
		}
	}
	if !u.debugInfo {
		return nil
	}
	for _, f := range l.debug {
		text := `{"archive":"../` + info.URL + `","member":"` + f.member + `"}`
		if err := u.putNew(ctx, "debuginfo/"+f.id, "application/json", strings.NewReader(text), int64(len(text))); err != nil {
			return err
		}
	}
	return nil
}

// awaitReferences returns when the cache has all that a path refers to. They
// began before, so this ends.
func (u *uploader) awaitReferences(ctx context.Context, it *item) error {
	for _, r := range it.References {
		ref := u.byPath[r]
		if ref == nil || ref == it {
			continue
		}
		select {
		case <-ref.done:
		case <-ctx.Done():
			return ctx.Err()
		}
		if ref.err != nil {
			return fmt.Errorf("cannot add '%s' to the binary cache because its reference '%s' could not be copied", it.Path, r)
		}
	}
	return nil
}

// logs writes build logs that are not there yet.
func (u *uploader) logs(ctx context.Context) error {
	for _, l := range u.req.Logs {
		if err := u.log(ctx, l); err != nil {
			return fmt.Errorf("copying the build log of '%s': %w", l.Drv, err)
		}
	}
	return nil
}

func (u *uploader) log(ctx context.Context, l wire.UploadLog) error {
	f, err := os.Open(l.File)
	if err != nil {
		return err
	}
	defer f.Close()
	s := new(spool)
	defer s.close()
	var in io.Reader = f
	if strings.HasSuffix(l.File, ".bz2") {
		in = bzip2.NewReader(bufio.NewReader(f))
	}
	if _, err := io.Copy(s, in); err != nil {
		return err
	}
	return u.putNew(ctx, "log/"+l.Drv.Base(), "text/plain; charset=utf-8", s.reader(), s.size)
}
