package hook

import "bytes"

// maxLine is the longest line in bytes that is read as one; what is longer
// comes in pieces. A builder's whole line may come quoted in JSON.
const maxLine = 1 << 20

// Lines cuts what a program says into lines. The zero value is ready.
type Lines struct{ rest []byte }

// Feed takes the next bytes and hands out each line without its line feed. The
// line is valid during the call only.
func (l *Lines) Feed(data []byte, line func([]byte)) {
	for len(data) > 0 {
		end := bytes.IndexByte(data, '\n')
		whole := end >= 0
		if !whole {
			end = len(data)
		}
		if room := maxLine - len(l.rest); end > room {
			end, whole = room, false
		}
		if len(l.rest) > 0 || !whole {
			l.rest = append(l.rest, data[:end]...)
		}
		switch {
		case whole && len(l.rest) == 0:
			line(data[:end])
		case whole || len(l.rest) == maxLine && end < len(data):
			l.emit(line)
		}
		data = data[end:]
		if whole {
			data = data[1:]
		}
	}
}

// End hands out what came after the last line feed, if there is any.
func (l *Lines) End(line func([]byte)) {
	if len(l.rest) > 0 {
		l.emit(line)
	}
}

// emit hands out what has been kept. Room for a usual line stays.
func (l *Lines) emit(line func([]byte)) {
	line(l.rest)
	if l.rest = l.rest[:0]; cap(l.rest) > 64<<10 {
		l.rest = nil
	}
}
