/** Completion scripts for bash, zsh and fish. Each asks `mod complete` for the candidates; none needs another package. */

export const SHELLS = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof SHELLS)[number];

/**
 * The script to source in a shell. It calls this program by its absolute path, so it also works where `mod` is an alias of
 * `npx mod`. Sourcing it twice changes nothing.
 *
 * @param command the interpreter and the program's script, absolute paths
 */
export function completionScript(shell: Shell, command: readonly string[]): string {
  return SCRIPTS[shell](command.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(' '));
}

// The first line that `mod complete` prints says which paths to add: none, dirs, files, or files with the extensions listed.
const SCRIPTS: Record<Shell, (command: string) => string> = {
  bash: (command) => `# bash completion of mod: source <(mod completion bash)
_mod_complete() {
  local cur=\${COMP_WORDS[COMP_CWORD]} paths value description extension
  COMPREPLY=()
  {
    read -r paths
    while IFS=$'\\t' read -r value description; do
      [[ -n $value ]] && COMPREPLY+=("$value")
    done
  } < <(${command} complete bash -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2> /dev/null)
  if [[ $paths != none && -n $paths ]]; then
    compopt -o filenames 2> /dev/null
    while IFS= read -r value; do COMPREPLY+=("$value"); done < <(compgen -d -- "$cur")
    [[ $paths == files ]] && while IFS= read -r value; do
      [[ -d $value ]] || COMPREPLY+=("$value")
    done < <(compgen -f -- "$cur")
    [[ $paths == files\\ * ]] && for extension in \${paths#files }; do
      while IFS= read -r value; do COMPREPLY+=("$value"); done < <(compgen -f -X "!*.$extension" -- "$cur")
    done
  fi
  [[ \${#COMPREPLY[@]} == 1 && \${COMPREPLY[0]} == */ ]] && compopt -o nospace 2> /dev/null
  return 0
}
complete -F _mod_complete mod
`,
  zsh: (command) => `#compdef mod
# zsh completion of mod: source <(mod completion zsh)
_mod() {
  local line paths value
  local -a lines described open
  lines=("\${(@f)$(${command} complete zsh -- "\${(@)words[2,CURRENT]}" 2> /dev/null)}")
  paths=$lines[1]
  for line in "\${(@)lines[2,-1]}"; do
    value=\${line%%$'\\t'*}
    [[ -z $value ]] && continue
    if [[ $value == */ ]]; then open+=("$value")
    else described+=("\${value//:/\\\\:}:\${line#*$'\\t'}")
    fi
  done
  (( $#described )) && _describe mod described
  (( $#open )) && compadd -S '' -- $open
  case $paths in
    dirs) _files -/ ;;
    files) _files ;;
    files\\ *) _files -g "*.(\${\${paths#files }// /|})(-.)" ;;
  esac
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }
if [[ $funcstack[1] == _mod ]]; then _mod "$@"; else compdef _mod mod; fi
`,
  fish: (command) => `# fish completion of mod: mod completion fish | source
function __mod_complete
  set -l words (commandline -opc)
  set -l current (commandline -ct)
  set -l lines (${command} complete fish -- $words[2..-1] $current 2> /dev/null)
  string match -v '' -- $lines[2..-1]
  switch "$lines[1]"
    case dirs
      __fish_complete_directories $current
    case files
      __fish_complete_path $current
    case 'files *'
      __fish_complete_directories $current
      for extension in (string split ' ' -- $lines[1])[2..-1]
        string match -- "*.$extension" (__fish_complete_path $current | string replace -r '\\t.*' '')
      end
  end
end
complete -c mod -e
complete -c mod -f -a '(__mod_complete)'
`,
};
