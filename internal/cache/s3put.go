package cache

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
)

// S3 takes objects of up to maxObject bytes in one request; it wants to know
// their size, and over HTTP their hash, first. Others go in parts, each of
// which is kept in memory: at least minPart bytes, and no more than maxParts.
const (
	maxObject = 5 << 30
	minPart   = 32 << 20
	maxParts  = 10_000
)

// putObject uploads what r describes.
func (s *server) putObject(ctx context.Context, r *request, body io.Reader) error {
	if !r.once && r.size >= 0 && r.size <= maxObject {
		hash := unsignedPayload // TLS protects it
		if s.net.base.Scheme != "https" {
			text, err := r.body()
			if err != nil {
				return s.fault(r, err)
			}
			h := sha256.New()
			if _, err := io.Copy(h, text); err != nil {
				return s.fault(r, err)
			}
			hash = hex.EncodeToString(h.Sum(nil))
		}
		r.header.Set(payloadHeader, hash)
		return s.perform(ctx, r)
	}
	size := int64(minPart)
	if r.size > 0 {
		size = max(size, (r.size+maxParts-1)/maxParts)
		size = min(size, r.size)
	}
	part := make([]byte, size)
	n, err := io.ReadFull(body, part)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return s.fault(r, err)
	}
	if err != nil || int64(n) == r.size { // that was all
		return s.putPart(ctx, r, part[:n])
	}
	return s.putParts(ctx, r, body, part)
}

// putPart sends bytes as the body of r.
func (s *server) putPart(ctx context.Context, r *request, data []byte) error {
	_, err := s.post(ctx, r, data)
	return err
}

// maxReply bounds what S3 answers to an upload, in bytes.
const maxReply = 64 << 10

// post sends bytes as the body of r and reads the answer.
func (s *server) post(ctx context.Context, r *request, data []byte) (reply struct {
	ETag     string
	UploadID string
}, err error) {
	sum := sha256.Sum256(data)
	if r.header == nil {
		r.header = http.Header{}
	}
	r.header.Set(payloadHeader, hex.EncodeToString(sum[:]))
	r.once, r.size = false, int64(len(data))
	r.body = func() (io.Reader, error) { return bytes.NewReader(data), nil }
	a, err := s.exchange(ctx, r)
	if err != nil {
		return reply, err
	}
	defer a.close()
	text, err := io.ReadAll(io.LimitReader(a.resp.Body, maxReply))
	if err != nil {
		return reply, s.fault(r, err)
	}
	var got struct {
		XMLName  xml.Name
		UploadID string `xml:"UploadId"`
		Code     string
		Message  string
	}
	if len(bytes.TrimSpace(text)) > 0 {
		if err := xml.Unmarshal(text, &got); err != nil {
			return reply, s.fault(r, err)
		}
	}
	if got.XMLName.Local == "Error" { // it may come late, after "200 OK"
		return reply, s.fault(r, fmt.Errorf("%s: %s", got.Code, got.Message))
	}
	reply.ETag, reply.UploadID = a.resp.Header.Get("ETag"), got.UploadID
	return reply, nil
}

// A finishedPart is how S3 is told of what an object consists of.
type finishedPart struct {
	PartNumber int
	ETag       string
}

// putParts uploads an object in parts, of which the first has been read.
func (s *server) putParts(ctx context.Context, r *request, body io.Reader, part []byte) error {
	begin := r.with(http.MethodPost, url.Values{"uploads": {""}})
	begin.header = r.header.Clone()
	reply, err := s.post(ctx, begin, nil)
	if err != nil {
		return err
	}
	if reply.UploadID == "" {
		return s.fault(r, errors.New("the server does not take uploads in parts"))
	}
	err = s.putRest(ctx, r, body, part, reply.UploadID)
	if err != nil {
		// What was sent costs space until it is dropped, also after an interrupt.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), minAnswerTime)
		defer cancel()
		_ = s.perform(ctx, r.with(http.MethodDelete, url.Values{"uploadId": {reply.UploadID}}))
	}
	return err
}

func (s *server) putRest(ctx context.Context, r *request, body io.Reader, part []byte, id string) error {
	var done struct {
		XMLName xml.Name       `xml:"CompleteMultipartUpload"`
		Part    []finishedPart `xml:"Part"`
	}
	var sent int64
	for n, number := len(part), 1; n > 0; number++ {
		reply, err := s.post(ctx, r.with(http.MethodPut, url.Values{
			"partNumber": {strconv.Itoa(number)}, "uploadId": {id},
		}), part[:n])
		if err != nil {
			return err
		}
		done.Part = append(done.Part, finishedPart{number, reply.ETag})
		sent += int64(n)
		n, err = io.ReadFull(body, part)
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return s.fault(r, err)
		}
	}
	if r.size >= 0 && sent != r.size {
		return s.fault(r, fmt.Errorf("there were %d bytes instead of %d", sent, r.size))
	}
	text, err := xml.Marshal(done)
	if err != nil {
		return s.fault(r, err)
	}
	_, err = s.post(ctx, r.with(http.MethodPost, url.Values{"uploadId": {id}}), text)
	return err
}

// with is a request about the same object.
func (r *request) with(method string, query url.Values) *request {
	u := *r.url
	u.RawQuery = query.Encode()
	return &request{method: method, name: r.name, url: &u}
}
