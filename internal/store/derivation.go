package store

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"gobuild/internal/store/drv"
	"gobuild/internal/store/storepath"
)

// maxDerivation bounds what is read of one derivation; real ones stay under a
// few megabytes.
const maxDerivation = 256 << 20

// Derivation reads and parses a derivation's file. It need not be valid.
func (s *Store) Derivation(p storepath.Path) (*drv.Derivation, error) {
	text, err := s.readDerivation(p)
	if err != nil {
		return nil, err
	}
	d, err := drv.Parse(s.dir, drvName(p), text)
	if err != nil {
		return nil, fmt.Errorf("error parsing derivation '%s': %w", p, err)
	}
	return d, nil
}

// Outline reads what planning needs of a derivation. Strings come from pool,
// which may be nil.
func (s *Store) Outline(p storepath.Path, pool *drv.Intern) (*drv.Outline, error) {
	text, err := s.readDerivation(p)
	if err != nil {
		return nil, err
	}
	return s.ParseOutline(p, text, pool)
}

// ParseOutline is Outline for whoever has read the file already. The text may
// be reused afterwards.
func (s *Store) ParseOutline(p storepath.Path, text []byte, pool *drv.Intern) (*drv.Outline, error) {
	o, err := drv.ParseOutline(s.dir, drvName(p), text, pool)
	if err != nil {
		return nil, fmt.Errorf("error parsing derivation '%s': %w", p, err)
	}
	return o, nil
}

func drvName(p storepath.Path) string { return strings.TrimSuffix(p.Name(), storepath.DrvSuffix) }

// readDerivation returns a derivation's text in a buffer that the next call
// reuses.
func (s *Store) readDerivation(p storepath.Path) ([]byte, error) {
	if !p.IsDerivation() {
		return nil, fmt.Errorf("path '%s' is not a derivation", p)
	}
	name := s.RealPath(p)
	// neither follow a link out of the store nor wait for a fifo's writer
	fd, err := openFile(name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("opening file '%s': %w", name, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	switch err := unix.Fstat(fd, &st); {
	case err != nil:
		return nil, fmt.Errorf("getting status of '%s': %w", name, err)
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return nil, fmt.Errorf("derivation '%s' is not a regular file", p)
	case st.Size > maxDerivation:
		return nil, fmt.Errorf("derivation '%s' is too large: %d bytes", p, st.Size)
	}
	if int64(cap(s.buf)) < st.Size {
		s.buf = make([]byte, st.Size+st.Size/2)
	}
	return s.readFull(fd, name, int(st.Size))
}

func (s *Store) readFull(fd int, name string, size int) ([]byte, error) {
	buf := s.buf[:size]
	for done := 0; done < size; {
		n, err := unix.Read(fd, buf[done:])
		switch {
		case err == unix.EINTR:
		case err != nil:
			return nil, fmt.Errorf("reading '%s': %w", name, err)
		case n == 0:
			return nil, fmt.Errorf("reading '%s': unexpected end-of-file", name)
		}
		done += max(n, 0)
	}
	return buf, nil
}

func openFile(name string, flags int) (int, error) {
	for {
		fd, err := unix.Open(name, flags|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// readDerivations parses the derivations among infos and holds them to the
// rules of registration. Outputs are returned even when one breaks a rule.
func (s *Store) readDerivations(infos []Info) (map[storepath.Path][]Output, error) {
	var outs map[storepath.Path][]Output
	var first error
	for i := range infos {
		p := infos[i].Path
		if !p.IsDerivation() {
			continue
		}
		d, err := s.Derivation(p)
		if err != nil {
			return outs, err
		}
		if outs == nil {
			outs = map[storepath.Path][]Output{}
		}
		outs[p] = knownOutputs(d)
		if err := s.checkDerivation(p, d); err != nil && first == nil {
			first = err
		}
	}
	return outs, first
}

func knownOutputs(d *drv.Derivation) []Output {
	var outs []Output
	for _, o := range d.Outputs {
		if o.Path != "" {
			outs = append(outs, Output{o.ID, o.Path})
		}
	}
	return outs
}

// checkDerivation remembers the hashes of inputs from call to call: a graph is
// registered leaf by leaf. After an error it starts anew, for a file that was
// not valid yet may have been at fault.
func (s *Store) checkDerivation(p storepath.Path, d *drv.Derivation) error {
	if s.hasher == nil {
		s.hasher = drv.NewHasher(s.Derivation)
	}
	err := d.CheckInvariants(s.dir, p, s.hasher)
	if err != nil {
		s.hasher = nil
	}
	return err
}
