// What gobuild wants of liblzma, in calls that take no pointers to pointers:
// memory of Go may be passed, but not be stored.

#include <lzma.h>
#include <stdlib.h>

typedef struct {
	size_t taken, put;
	lzma_ret result;
} gobuild_progress;

static inline gobuild_progress gobuild_code(lzma_stream *s, const uint8_t *in, size_t in_size, uint8_t *out, size_t out_size,
					    lzma_action action) {
	s->next_in = in;
	s->avail_in = in_size;
	s->next_out = out;
	s->avail_out = out_size;
	lzma_ret result = lzma_code(s, action);
	gobuild_progress p = {in_size - s->avail_in, out_size - s->avail_out, result};
	s->next_in = NULL;
	s->next_out = NULL;
	return p;
}

// LZMA_VERSION 5.4.0 brought threads for decoding and the lzip format.
#define GOBUILD_LZMA_5_4 50040002U

static inline lzma_ret gobuild_xz_decoder(lzma_stream *s, uint32_t threads, uint64_t limit) {
#if LZMA_VERSION >= GOBUILD_LZMA_5_4
	lzma_mt mt = {
		.flags = LZMA_CONCATENATED,
		.threads = threads,
		.memlimit_threading = limit,
		.memlimit_stop = limit,
	};
	return lzma_stream_decoder_mt(s, &mt);
#else
	(void)threads;
	return lzma_stream_decoder(s, limit, LZMA_CONCATENATED);
#endif
}

static inline lzma_ret gobuild_lzip_decoder(lzma_stream *s, uint64_t limit) {
#if LZMA_VERSION >= GOBUILD_LZMA_5_4
	return lzma_lzip_decoder(s, limit, LZMA_CONCATENATED);
#else
	(void)s;
	(void)limit;
	return LZMA_OPTIONS_ERROR;
#endif
}

// No threads means to write a single block, as small as can be.
static inline lzma_ret gobuild_xz_encoder(lzma_stream *s, uint32_t level, uint32_t threads) {
	if (threads == 0)
		return lzma_easy_encoder(s, level, LZMA_CHECK_CRC64);
	lzma_mt mt = {
		.threads = threads,
		.preset = level,
		.check = LZMA_CHECK_CRC64,
	};
	return lzma_stream_encoder_mt(s, &mt);
}
