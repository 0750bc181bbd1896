{{/* Who a component is to others, and whom it trusts: flags, variables and the files they name. */}}

{{/* The Secrets that a component, of (dict "root" $ "component" NAME), has as files, as JSON:
{"all": [{name, path, secret, keys}]}, where no keys are all. They are mounted as whole folders, as a
single file would not change with its Secret. */}}
{{- define "holdfast.files" -}}
{{- $root := .root -}}
{{- $values := $root.Values -}}
{{- $secure := not $values.insecure -}}
{{- $all := list -}}
{{- if and $secure (eq .component "coordinator") -}}
{{- $all = append $all (dict "name" "tls-server" "path" "tls/server" "secret" $values.tls.server.existingSecret) -}}
{{- with $values.auth -}}
{{- $given := dict "oidc/keys" .oidc.keys "oidc/ca" .oidc.ca "tokens" .tokens -}}
{{- range $path := list "oidc/keys" "oidc/ca" "tokens" -}}
{{- with (get $given $path).existingSecret -}}
{{- if .name -}}
{{- $file := get (dict "oidc/keys" "keys.pem" "oidc/ca" "ca.crt" "tokens" "tokens.yaml") $path -}}
{{- $all = append $all (dict "name" (replace "/" "-" $path) "path" $path "secret" .name "keys" (dict .key $file)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $secure (eq .component "test") $values.tls.server.caKey -}}
{{- $ca := $values.tls.server.caKey -}}
{{- $all = append $all (dict "name" "tls-server" "path" "tls/server" "secret" $values.tls.server.existingSecret "keys" (dict $ca $ca)) -}}
{{- end -}}
{{- if and $secure (has .component (list "coordinator" "worker")) -}}
{{- $all = append $all (dict "name" "tls-peer" "path" "tls/peer" "secret" (get $values.tls.peer .component).existingSecret) -}}
{{- end -}}
{{- if ne .component "test" -}}
{{- with include "holdfast.files.etcd" $root -}}
{{- $all = append $all (fromJson .) -}}
{{- end -}}
{{- with $values.etcd.auth.existingSecret -}}
{{- $all = append $all (dict "name" "etcd-auth" "path" "etcd/auth" "secret" . "keys" (dict "password" "password")) -}}
{{- end -}}
{{- end -}}
{{- if has .component (list "worker" "migrate") -}}
{{- $spare := eq .component "worker" -}}
{{- range $values.shards -}}
{{- $file := dict "name" (printf "shard-%s" .name) "path" (printf "shards/%s" .name) -}}
{{- if and .spare (not $spare) -}}
{{- else if .tls -}}
{{- $keys := dict -}}
{{- range default (list "ca.crt") .tls.keys -}}{{- $_ := set $keys . . -}}{{- end -}}
{{- $all = append $all (merge $file (dict "secret" .tls.existingSecret "keys" $keys)) -}}
{{- else if and $secure (include "holdfast.dev.brings" (dict "root" $root "shard" .)) -}}
{{- $all = append $all (merge $file (dict "secret" $values.dev.tls.existingSecret "keys" (dict "ca.crt" "ca.crt"))) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if eq .component "worker" -}}
{{- with $values.worker.payments.stripe.existingSecret -}}
{{- if .name -}}
{{- $all = append $all (dict "name" "stripe" "path" "stripe" "secret" .name "keys" (dict .key "secret-key")) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson (dict "all" $all) -}}
{{- end -}}

{{/* What etcd's certificate is checked with, and what is shown to it. The etcd that dev.enabled
brings wants to be shown something only if there is something. */}}
{{- define "holdfast.files.etcd" -}}
{{- $file := dict "name" "etcd-tls" "path" "etcd/tls" -}}
{{- if .Values.insecure -}}
{{- else if .Values.etcd.tls.existingSecret -}}
{{- $keys := ternary (dict) (dict "ca.crt" "ca.crt") .Values.etcd.tls.clientCertificate -}}
{{- merge $file (dict "secret" .Values.etcd.tls.existingSecret "keys" $keys) | toJson -}}
{{- else if not .Values.etcd.endpoints -}}
{{- merge $file (dict "secret" .Values.dev.tls.existingSecret "keys" (dict "ca.crt" "ca.crt")) | toJson -}}
{{- end -}}
{{- end -}}

{{/* A container's mounts. */}}
{{- define "holdfast.mounts" -}}
{{- with (include "holdfast.files" . | fromJson).all }}
volumeMounts:
  {{- range . }}
  - name: {{ .name }}
    mountPath: /etc/holdfast/{{ .path }}
    readOnly: true
  {{- end }}
{{- end }}
{{- end -}}

{{/* And the volumes of its pod. */}}
{{- define "holdfast.volumes" -}}
{{- with (include "holdfast.files" . | fromJson).all }}
volumes:
  {{- range . }}
  - name: {{ .name }}
    secret:
      secretName: {{ .secret }}
      defaultMode: 0440
      {{- with .keys }}
      items:
        {{- range $key, $path := . }}
        - key: {{ $key }}
          path: {{ $path }}
        {{- end }}
      {{- end }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Flags of coordinators. */}}
{{- define "holdfast.args.server" -}}
{{- if not .Values.insecure -}}
- --tls-cert=/etc/holdfast/tls/server/tls.crt
- --tls-key=/etc/holdfast/tls/server/tls.key
{{ include "holdfast.args.peer" . }}
{{- with .Values.auth }}
{{- with .oidc }}
{{- if .issuer }}
- --oidc-issuer={{ .issuer }}
- --oidc-audience={{ .audience }}
- --oidc-roles-claim={{ .rolesClaim }}
- --oidc-customer-claim={{ .customerClaim }}
{{- if .keys.existingSecret.name }}
- --oidc-keys-file=/etc/holdfast/oidc/keys/keys.pem
{{- end }}
{{- if .ca.existingSecret.name }}
- --oidc-ca=/etc/holdfast/oidc/ca/ca.crt
{{- end }}
{{- end }}
{{- end }}
{{- if .tokens.existingSecret.name }}
- --tokens-file=/etc/holdfast/tokens/tokens.yaml
{{- end }}
- --rate-per-buyer={{ .ratePerBuyer }}
- --rate-per-caller={{ .ratePerCaller }}
{{- end }}
{{- end -}}
{{- end -}}

{{/* Flags of both servers. */}}
{{- define "holdfast.args.peer" -}}
{{- if not .Values.insecure -}}
- --peer-cert=/etc/holdfast/tls/peer/tls.crt
- --peer-key=/etc/holdfast/tls/peer/tls.key
- --peer-ca=/etc/holdfast/tls/peer/ca.crt
{{- end -}}
{{- end -}}

{{/* How to speak to etcd. As variables, as where it is. */}}
{{- define "holdfast.env.etcdSecurity" -}}
{{- include "holdfast.env.insecure" . }}
{{- with include "holdfast.files.etcd" . }}
- name: HOLDFAST_ETCD_CA
  value: /etc/holdfast/etcd/tls/ca.crt
{{- if not (fromJson .).keys }}
- name: HOLDFAST_ETCD_CERT
  value: /etc/holdfast/etcd/tls/tls.crt
- name: HOLDFAST_ETCD_KEY
  value: /etc/holdfast/etcd/tls/tls.key
{{- end }}
{{- end }}
{{- with .Values.etcd.auth.existingSecret }}
- name: HOLDFAST_ETCD_USER
  valueFrom:
    secretKeyRef:
      name: {{ . }}
      key: username
- name: HOLDFAST_ETCD_PASSWORD_FILE
  value: /etc/holdfast/etcd/auth/password
{{- end }}
{{- end -}}

{{- define "holdfast.env.insecure" -}}
{{- if .Values.insecure }}
- name: HOLDFAST_INSECURE
  value: "true"
{{- end }}
{{- end -}}

{{/* How clients check coordinators, where there is something to check. */}}
{{- define "holdfast.env.client" -}}
{{- if and (not .Values.insecure) .Values.tls.server.caKey }}
- name: HOLDFAST_CA
  value: /etc/holdfast/tls/server/{{ .Values.tls.server.caKey }}
{{- end }}
{{- end -}}

{{/* What a container of the test knows and has. */}}
{{- define "holdfast.test.client" -}}
env:
  {{- include "holdfast.env.insecure" .root | nindent 2 }}
  {{- include "holdfast.env.client" .root | nindent 2 }}
  {{- if not .root.Values.insecure }}
  - name: HOLDFAST_TOKEN
    valueFrom:
      secretKeyRef:
        {{- toYaml .root.Values.test.tokenSecret | nindent 8 }}
  {{- end }}
{{- with include "holdfast.mounts" . | trim }}
{{ . }}
{{- end }}
{{- end -}}
