package hook

import "fmt"

// A SandboxPaths reads what a pre-build-hook prints. The zero value is ready.
type SandboxPaths struct {
	Items []string // as in the setting sandbox-paths, in order

	lines  Lines
	inList bool
	err    error
}

// Feed takes the next bytes.
func (s *SandboxPaths) Feed(data []byte) { s.lines.Feed(data, s.line) }

// End takes the end of the output, and tells what was wrong with it.
func (s *SandboxPaths) End() error {
	s.lines.End(s.line)
	return s.err
}

// maxItems bounds what is kept of a hook that does not stop.
const maxItems = 1 << 16

func (s *SandboxPaths) line(text []byte) {
	switch line := string(text); {
	case s.err != nil:
	case !s.inList && (line == "extra-sandbox-paths" || line == "extra-chroot-dirs"):
		s.inList = true
	case !s.inList:
		s.err = fmt.Errorf("unknown pre-build hook command '%s'", clip(text))
	case line == "":
		s.inList = false
	case len(s.Items) == maxItems:
		s.err = fmt.Errorf("more than %d sandbox paths from the pre-build hook", maxItems)
	default:
		s.Items = append(s.Items, line)
	}
}
