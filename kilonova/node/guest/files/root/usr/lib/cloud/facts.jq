# meta_data.json → shell commands: three variables, and the files $told/keys and $told/files. @sh quotes whatever users wrote.
[(.public_keys // {} | .[]), (.keys // [] | .[] | select(.type == "ssh") | .data)] as $keys
| [.files // [] | .[] | [.path, .content_path] | @tsv] as $files
| @sh "instance_id=\(.uuid // "") name=\(.hostname // .name // "") password=\(.admin_pass // "")",
  ($keys | map(rtrimstr("\n")) | unique | .[] | @sh "printf '%s\\n' \(.) >> $told/keys"),
  ($files[] | @sh "printf '%s\\n' \(.) >> $told/files")
