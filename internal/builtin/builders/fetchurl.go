package builders

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"gobuild/internal/cache/compress"
	"gobuild/internal/store/nar"
)

// fetchurl downloads a file, or an archive that it unpacks. Nothing depends on
// who delivers it: the engine compares the output's hash.
func (b *build) fetchurl() error {
	switch {
	case b.Fetch == nil:
		return errors.New("the engine said nothing about the network")
	case b.option("out") == "":
		return errors.New("'builtin:fetchurl' requires an 'out' output")
	case !b.Fetch.Fixed:
		return errors.New("'builtin:fetchurl' must be a fixed-output or impure derivation")
	}
	main, err := b.attribute("url")
	if err != nil {
		return err
	}
	d, err := b.newDownloader()
	if err != nil {
		return err
	}
	if b.Fetch.FlatHash != "" {
		for _, mirror := range b.Fetch.Mirrors {
			// A mirror may lack the file; that says nothing.
			if b.fetch(d, strings.TrimSuffix(mirror, "/")+"/"+b.Fetch.FlatHash, "") == nil {
				return nil
			}
		}
	}
	return b.fetch(d, main, main)
}

// fetch makes the output of what is at a URL. packed is the URL whose name says
// how an archive is compressed.
func (b *build) fetch(d *downloader, url, packed string) error {
	out := b.option("out")
	err := d.download(url, func(body io.Reader) error {
		if err := os.RemoveAll(out); err != nil { // of an attempt before
			return &localError{err}
		}
		if b.option("unpack") == "1" {
			return restore(body, packed, out)
		}
		return write(body, out)
	})
	if err != nil {
		return err
	}
	if b.option("executable") == "1" {
		if err := os.Chmod(out, 0o755); err != nil {
			return fmt.Errorf("making '%s' executable: %w", out, err)
		}
	}
	return nil
}

func write(body io.Reader, out string) error {
	f, err := os.OpenFile(out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return &localError{err}
	}
	_, err = io.Copy(&localWriter{f}, body)
	if closing := f.Close(); closing != nil && err == nil {
		err = &localError{closing}
	}
	return err
}

// restore unpacks an archive, after which nothing may follow.
func restore(body io.Reader, url, out string) error {
	r := body
	if strings.HasSuffix(url, ".xz") {
		dec, err := compress.NewReader("xz", body)
		if err != nil {
			return unpackError(err)
		}
		defer dec.Close()
		r = dec
	}
	if err := nar.Restore(r, out); err != nil {
		return unpackError(err)
	}
	more := make([]byte, 1)
	if n, err := io.ReadFull(r, more); n > 0 {
		return unpackError(errors.New("something follows the archive"))
	} else if err != io.EOF {
		return unpackError(err)
	}
	return nil
}

// unpackError is final unless the download itself broke off.
func unpackError(err error) error {
	if broken := (*transferError)(nil); errors.As(err, &broken) {
		return err
	}
	return &localError{fmt.Errorf("unpacking the archive: %w", err)}
}

// A localError is not the server's fault, or cannot be put right by asking it
// again.
type localError struct{ err error }

func (e *localError) Error() string { return e.err.Error() }
func (e *localError) Unwrap() error { return e.err }

// A localWriter marks errors in writing.
type localWriter struct{ w io.Writer }

func (w *localWriter) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	if err != nil {
		err = &localError{err}
	}
	return n, err
}
