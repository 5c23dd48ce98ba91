/* Runs a shell command in the Clove kernel: hello [COMMAND] */

#include <stdbool.h>
#include <stdio.h>

#include "ipc/pack.h"
#include "sdk/c/clove.h"

/* [command, {"timeout_ms": 5000}], as ipc/wire.def declares the arguments of EXEC. */
static void pack_arguments(msgpack_sbuffer *args, const char *command)
{
	msgpack_packer packer;

	msgpack_packer_init(&packer, args, msgpack_sbuffer_write);
	pack_array(&packer, 2);
	pack_text(&packer, command);
	pack_map(&packer, 1);
	pack_key_uint(&packer, "timeout_ms", 5000);
}

/* Prints what the command wrote. False when the result is not the map that EXEC answers with. */
static bool print_result(struct cursor result)
{
	const uint8_t *bytes;
	int64_t exit_code;
	uint32_t len;

	if (clove_map_bytes(result, "stdout", &bytes, &len) ||
	    clove_map_int(result, "exit_code", &exit_code))
		return false;
	fwrite(bytes, 1, len, stdout);
	printf("exit code %lld\n", (long long)exit_code);
	return true;
}

int main(int argc, char **argv)
{
	struct clove *clove = NULL;
	struct clove_frame answer;
	msgpack_sbuffer args;
	int r, status = 1;

	msgpack_sbuffer_init(&args);
	pack_arguments(&args, argc > 1 ? argv[1] : "echo 'Hello from Clove!'");
	r = clove_open(NULL, &clove);
	if (!r)
		r = clove_call(clove, WIRE_OP_EXEC, args.data, args.size, 10000, &answer);
	if (r)
		fprintf(stderr, "hello: %s\n", clove_strerror(r));
	else if (answer.kind == CLOVE_ERROR)
		fprintf(stderr, "hello: %s: %.*s\n", answer.error.name,
			(int)answer.error.message_len, answer.error.message);
	else if (!print_result(clove_body(&answer)))
		fprintf(stderr, "hello: this is no answer to EXEC\n");
	else
		status = 0;
	clove = clove_close(clove);
	msgpack_sbuffer_destroy(&args);
	return status;
}
