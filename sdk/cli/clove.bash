# Completion of clove for bash: source this file, or install it as
# /usr/share/bash-completion/completions/clove. What there is to complete clove itself is asked for.

_clove() {
	local program=${COMP_WORDS[0]} word=${COMP_WORDS[COMP_CWORD]} command= words= i socket=()
	COMPREPLY=()
	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		--socket) socket=(--socket "${COMP_WORDS[++i]}") ;;
		--timeout) ((++i)) ;;
		-*) ;;
		*) [ -n "$command" ] || command=${COMP_WORDS[i]} ;;
		esac
	done
	case $word in
	-*) words=$("$program" help $command 2>/dev/null | sed -n 's/^ \{2,6\}\(-., \)\{0,1\}\(--[a-z-]*\).*/\2/p') ;;
	*)
		case $command in
		'' | help) words=$("$program" help 2>/dev/null | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\) .*/\1/p') ;;
		logs | wait | kill | rm | pause | resume | inspect)
			words=$("$program" "${socket[@]}" --timeout 1s ps 2>/dev/null | awk 'NR > 1 { print $2 }')
			;;
		esac
		;;
	esac
	[ -z "$words" ] || mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}

complete -o default -F _clove clove
